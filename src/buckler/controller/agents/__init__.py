"""The agents' side of a controller: /agent/v1 over TLS, as model.agentapi says."""

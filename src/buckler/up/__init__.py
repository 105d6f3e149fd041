"""``buckler up``: controller and agent on one machine. Starts and watches them; neither decides nor enforces anything."""

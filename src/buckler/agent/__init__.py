"""The agent of one hypervisor host: an assembly of gate, drivers and client. Holds no key that changes policy."""

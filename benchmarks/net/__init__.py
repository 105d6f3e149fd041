"""What the measurements of the data plane share: worlds with two VMs, filters of others, traffic, figures. Owns no table."""

"""The guard in nftables behind ports/guard. Decides nothing about policy."""

"""The shield in the kernel: programs, maps, links and counters behind ports/shield and ports/telemetry. Decides nothing."""

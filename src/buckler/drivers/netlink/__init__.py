"""The kernel's interfaces over rtnetlink behind ports/links."""

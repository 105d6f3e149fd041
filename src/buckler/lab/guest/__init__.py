"""The lab's guest: what it boots, and how the lab speaks to it."""

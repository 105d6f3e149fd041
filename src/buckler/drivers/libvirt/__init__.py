"""libvirt's domains and events. Owns no decision about them."""

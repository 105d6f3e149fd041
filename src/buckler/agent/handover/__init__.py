"""A VM's protection moves with it: what one agent hands to another, in signed, named, versioned sections."""

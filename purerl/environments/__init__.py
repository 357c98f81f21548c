"""The boundary to physics."""

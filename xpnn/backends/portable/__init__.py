"""What every backend is: the portable version of each primitive, which a library may override."""

"""The units of a core, one file each: what it is, how long an op takes, what that costs."""

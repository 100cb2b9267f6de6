"""An emulated Verda (DataCrunch) cloud on loopback that rents machines; the official SDK takes it for the real one."""

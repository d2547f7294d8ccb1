"""Reading a meter over DLMS/COSEM (IEC 62056): an extra, `openmg[agent,dlms]`."""

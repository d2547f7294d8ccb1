"""Right answers of a meter without authentication, taken from the wire of Gurux DLMS for Java 4.0.47; the wrapper apart."""

from __future__ import annotations

ACCEPTED = bytes.fromhex("6129a109060760857405080101a203020100a305a103020100be10040e0800065f1f040000125dffff0007")
VALUE, SCALER_WH, SCALER_W = (bytes.fromhex(text) for text in ("060001e240", "02020fff161e", "02020fff161b"))
WH = {(1, 8), (2, 8)}
READING = {"power_total_w": 0, "energy_import_kwh": 12.345, "energy_export_kwh": 12.345}


def right_answer(apdu: bytes) -> bytes:
    """Every register is worth 123456 tenths of a unit."""
    if apdu[0] == 0x60:
        return ACCEPTED
    attribute, code = apdu[11], (apdu[7], apdu[8])
    data = VALUE if attribute == 2 else SCALER_WH if code in WH else SCALER_W
    return b"\xc4\x01" + apdu[2:3] + b"\x00" + data

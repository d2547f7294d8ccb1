"""Reading a meter over Modbus: one safe link, requests planned from the meter's profile, values checked."""

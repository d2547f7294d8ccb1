"""The program on the meter: it reads Modbus, keeps SQLite, trains, pays and speaks MQTT, and imports no hub."""

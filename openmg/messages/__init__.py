"""What travels over MQTT between meters and hubs: topics, message classes and their one encoding."""

"""The MQTT connection against a real broker."""

import asyncio

from hub.ingest.broker import serve_broker
from openmg.mqtt import MqttAddress, MqttLink


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_filter_added_while_connecting_is_subscribed(free_port):
    """Between paho's callback, which subscribes what is known, and the loop's, which says "connected", a service may add
    a filter; it once fell through and its messages never came."""
    address, stop, heard = MqttAddress("127.0.0.1", free_port()), asyncio.Event(), []
    broker = asyncio.create_task(serve_broker(address.host, address.port, stop))
    await asyncio.sleep(0.3)
    held = []
    link = MqttLink(address, "listener", lambda topic, payload: heard.append((topic, payload)), lambda: None)
    deliver = link._in_loop
    link._in_loop = lambda call, *arguments: held.append((call, arguments))  # the loop is busy: its callbacks wait
    link.subscribe("known/topic")
    link.start()
    sender = MqttLink(address, "sender", lambda topic, payload: None, lambda: None)
    sender.start()
    await until(lambda: any(call == link._now_connected for call, _ in held))
    link.subscribe("late/topic")
    link._in_loop = deliver
    for call, arguments in held:
        call(*arguments)
    await until(lambda: sender.connected)
    await asyncio.sleep(0.3)
    assert sender.publish("late/topic", b"x") and sender.publish("known/topic", b"y")
    await until(lambda: len(heard) == 2)
    assert sorted(heard) == [("known/topic", b"y"), ("late/topic", b"x")]
    await link.stop()
    await sender.stop()
    stop.set()
    await broker

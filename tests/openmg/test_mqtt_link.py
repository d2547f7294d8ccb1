"""The MQTT connection against a real broker."""

import asyncio

from hub.ingest.broker import serve_broker
from openmg import mqtt_pump
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


async def test_a_problem_that_is_over_is_none(free_port):
    """Before the first connection, while one stands, after it broke off, and when the broker is there again."""
    address, stop = MqttAddress("127.0.0.1", free_port()), asyncio.Event()
    link = MqttLink(address, "listener", lambda topic, payload: None, lambda: None)
    assert "gave no connection" in link.problem
    link.start()
    await until(lambda: "cannot be reached" in link.problem)
    for times in (1, 2):
        broker = asyncio.create_task(serve_broker(address.host, address.port, stop))
        await until(lambda times=times: link.counts().connects == times)
        assert link.connected and link.problem == ""
        stop.set()
        await broker
        stop.clear()
        await until(lambda: not link.connected)
        assert link.problem != ""
    await link.stop()


async def test_only_what_was_subscribed_is_heard(free_port):
    """The embedded broker greets a client with retained messages of everybody's filters; who hears them must not take
    them for malformed ones."""
    address, stop = MqttAddress("127.0.0.1", free_port()), asyncio.Event()
    broker = asyncio.create_task(serve_broker(address.host, address.port, stop))
    await asyncio.sleep(0.3)
    all_heard, heard = [], []
    first = MqttLink(address, "first", lambda topic, payload: all_heard.append(topic), lambda: None)
    first.subscribe("#")
    first.start()
    await until(lambda: first.connected)
    assert first.publish("hub/news", b"1", retain=True) and first.publish("grid/news", b"2", retain=True)
    await until(lambda: len(all_heard) == 2)
    second = MqttLink(address, "second", lambda topic, payload: heard.append(topic), lambda: None)
    second.subscribe("grid/+")
    second.start()
    await until(lambda: heard)
    await asyncio.sleep(0.3)
    assert set(heard) == {"grid/news"}
    await first.stop()
    await second.stop()
    stop.set()
    await broker


async def test_looks_go_on_and_a_late_word_of_an_end_ends_no_other_connection(free_port, monkeypatch):
    monkeypatch.setattr(mqtt_pump, "LOOK_S", 0.1)
    address, stop, heard = MqttAddress("127.0.0.1", free_port()), asyncio.Event(), []
    broker = asyncio.create_task(serve_broker(address.host, address.port, stop))
    await asyncio.sleep(0.3)
    link = MqttLink(address, "listener", lambda topic, payload: heard.append(topic), lambda: None)
    link.subscribe("known/topic")
    link.start()
    await until(lambda: link.connected)
    pump = link._pump
    pump.down()  # as of the connection before, told when this one stands already
    before = pump.turns
    await asyncio.sleep(1.0)
    assert 5 <= pump.turns - before <= 12, "looked at ten times a second, neither resting nor spinning"
    assert link.publish("known/topic", b"x")
    await until(lambda: heard == ["known/topic"])
    assert link.counts().connects == 1
    await link.stop()
    turns = pump.turns
    await asyncio.sleep(0.3)
    assert pump.turns == turns, "after the end nobody looks"
    stop.set()
    await broker

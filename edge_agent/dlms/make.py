"""A DLMS reader from an agent's configuration; imported only where one is configured, since the library is an extra."""

from __future__ import annotations

from edge_agent.config import AgentConfig
from edge_agent.dlms.carrier import DlmsTarget
from edge_agent.dlms.counter import FILE_NAME, InvocationCounter
from edge_agent.dlms.line import Line
from edge_agent.dlms.link import DlmsLink
from edge_agent.dlms.reader import DlmsReader
from edge_agent.shared import Shared
from openmg.profiles.profile import Profile


def make_dlms_reader(config: AgentConfig, profile: Profile, shared: Shared | None = None) -> DlmsReader:
    """A reader on a link of its own that is not open yet; HDLC meters of one process on one line share that."""
    meter, section = config.meter, config.meter.dlms_section
    path = config.device.state_dir / FILE_NAME
    counter = InvocationCounter(path, section.first_counter) if section.is_protected else None
    target = DlmsTarget(meter.host, meter.port, meter.timeout_seconds, section, meter.serial)
    line: Line | None = None
    if section.framing == "hdlc":
        bus = meter.target(profile)
        line = Line(bus) if shared is None else shared.line(bus)
    return DlmsReader(DlmsLink(target, counter, line=line), section, profile)

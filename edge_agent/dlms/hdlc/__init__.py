"""The data link layer of serial and optical ports (IEC 62056-46, HDLC), pure; the bytes travel in `edge_agent.dlms.line`."""

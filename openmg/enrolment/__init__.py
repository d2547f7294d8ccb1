"""How a device gets its certificate: the one-time code, the messages, what both sides prove, and the certificates' form.

Pure: no clock, socket, file or chance. The argument why a man in the middle gets nothing: docs/ENROLMENT.md.
"""

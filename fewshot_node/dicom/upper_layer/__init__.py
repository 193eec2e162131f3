"""The upper layer of an association acceptor (PS3.8) and the DIMSE messages on top of it (PS3.7).

pynetdicom encodes and decodes what is negotiated. Its server is not used: it polls each association a
thousand times a second, reads without a time limit once a PDU has begun, buffers what the disk has not
taken yet, and does TLS handshakes in the thread that accepts connections. Here one thread serves one
association and waits for its peer in the kernel; every read has a deadline and nothing is buffered.
"""

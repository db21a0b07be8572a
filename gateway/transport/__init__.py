"""HTTP/1.1 to the providers: their own bytes, head and body, handed on; read only for where they end.

Reading order: `head` (checks an answer's head, keeps its lines), `framing` (finds a body's end), `connection` (one
connection, one request at a time), `dial` with `proxies` (name to connection: addresses, TLS, CONNECT), `pool`
(connections between requests). `gateway/upstream.py` is the door; nothing else of the product imports from here.

Two rules. Bytes are handed on before anybody interprets them, but never before they were checked: what two parsers
could read in two ways ends the connection. And nothing is sent twice: a connection is given a request only while it is
known to be alive, and whatever breaks after that is the caller's to see.
"""

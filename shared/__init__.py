"""What two processes must agree on, and nothing else.

Reading order: `event` (one request's metadata) is packed into a frame by `stream` (key names, frame format);
`registry` holds the records of organisations; `environment` turns LECTR_ variables into settings;
`clock`, `counters` and `logs` wrap what every process measures and says about itself; `tasks` what its loops must ask.
A module that only one package uses belongs into that package.
"""

"""The publisher: writes a repository in the real format, so that any client can mount it. Import from here.

objects.py the store of objects, chunker.py where files are cut, tree.py what is published, catalog.py the
SQLite catalog, signing.py keys and signatures, manifest.py the signed files, publisher.py the order in
which it is done.
"""

from cvtrace.lab.publish.chunker import DEFAULT_CHUNK_BYTES
from cvtrace.lab.publish.objects import Compression
from cvtrace.lab.publish.publisher import DEFAULT_URL, Published, publish, write_client_config

__all__ = ["DEFAULT_CHUNK_BYTES", "DEFAULT_URL", "Compression", "Published", "publish", "write_client_config"]

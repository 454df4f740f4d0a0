"""Released versions on other machines: published where they are released, fetched by each host that is to serve them.

Enters: the truth about what is served. Leaves, through a folder or a bucket: Tritons elsewhere that serve the same.
Only the publisher's signature is trusted, never the store. Which version is released is decided above; it is known here
as rows of the truth alone.
"""

"""Making calls: gRPC for threads and for asyncio, deadlines, retries, and requests of many messages."""

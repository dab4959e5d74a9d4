"""The distributed data path: workers, committers and tickers over the memory backend, with and without faults."""

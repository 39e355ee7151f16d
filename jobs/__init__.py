"""The contract between those who ask and those who generate: record, states, store, relay, artifacts."""

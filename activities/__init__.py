"""The runbook's steps as Temporal activities: one module an integration, thin, each error translated once."""

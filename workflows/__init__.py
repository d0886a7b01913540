"""The runbook. Orchestration only: it names activities and never imports an integration."""

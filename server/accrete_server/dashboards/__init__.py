"""What ships for Grafana and Prometheus: `grafana.json` and `alerts.yaml`. docs/monitoring.md says how to use them."""

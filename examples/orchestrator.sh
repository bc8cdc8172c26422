orchestrator tools                                # every tool, its price, what its schema costs per turn
orchestrator call git git_status '{}'             # one call: its answer and its receipt
orchestrator run script.yaml                      # an agent's turns, with what should come of each
orchestrator costs --by task --since 7d           # also by tool, server, sku, model, agent, role, project, day; --trend
orchestrator audit list --action refused          # what was refused, to whom, why
orchestrator audit verify                         # was any entry of the ledger changed, dropped or moved?

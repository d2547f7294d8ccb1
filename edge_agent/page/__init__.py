"""The owner's page: a process of its own that shows the home its consumption, forecast, cheapest hours and statements.

Rules: it reads the agent's files and writes none of them; the agent does not know that it runs. It talks to nobody but
browsers: no broker, no hub. What is not known is shown as unknown, with the reason. numpy is never loaded into it: what needs
it runs in a child (`forecast_child`). Not here: the commands (`edge_agent.commands.page`).
"""

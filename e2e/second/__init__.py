"""A second site that nobody's defaults fit: names, TLS, logins and clusters as a team has them, made for one test.

`names` what this host is told, `certificates`, `servers` the registry and Git, `clusters` the second cluster and
Argo CD, `team` the team's checkout with its site.
"""

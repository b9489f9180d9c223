"""The Jenkinsfile, run step by step on this machine by JenkinsPipelineUnit: Groovy that plays Jenkins, and its driver.

Real: the Jenkinsfile, the shell of each `sh`, files and variables of credentials, locks (of the kernel), the reports.
Played: Jenkins itself. Its declarative part is not on Maven Central; Declarative.groovy reads what our file says, and
refuses the rest. A person's answer to `input` comes from a file, and who may answer from a list.
"""

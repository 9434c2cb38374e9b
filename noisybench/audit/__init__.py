"""Auditing labels: what wrong labels a data set seems to have, without knowing a single right one."""

#!/bin/sh
# properties = {properties}
# What Snakemake submits: its own script, and two lines.
# Ahead of its time limit every process of a job gets SIGUSR1. A training saves and leaves; those around it must outlive
# the signal, or the job would be over before the save.
trap '' USR1
# Grid Engine gives every job a temporary folder of its own; GPUs are locked in one that all jobs of a host share.
unset TMPDIR TMP
{exec_job}

#!/bin/sh
# Snakemake itself as a Slurm job, for sites whose login nodes end long processes. From the repository root:
#   sbatch --partition=long --time=7-0 slurm/controller.sh --profile slurm all        (docs/cluster.md)
# The same line again goes on after a time limit or a lost node: jobs still at work are waited for.
#SBATCH --job-name=georecon-controller
#SBATCH --dependency=singleton
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --output=georecon-controller-%j.log
#SBATCH --requeue
#SBATCH --open-mode=append
exec python -m georecon.recover "$@"

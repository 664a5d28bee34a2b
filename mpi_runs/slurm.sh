#!/bin/bash
# Template of a batch job. Adapt the lines with "<", then: sbatch mpi_runs/slurm.sh cases/circle_rbf.toml [options of mvpde run]
#SBATCH --job-name=mvpde
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
##SBATCH --partition=<partition>
##SBATCH --account=<account>
set -euo pipefail

case=${1:?usage: sbatch mpi_runs/slurm.sh CASE.toml [options of mvpde run]}
shift

# <the environment: this repository's .venv, or: module load ...; conda activate mvpde>
cd "${SLURM_SUBMIT_DIR:-.}"
source .venv/bin/activate

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# A folder that all nodes of the job see; node-local scratch would have to be filled on every node.
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}

out=results/$(basename "$case" .toml)-${SLURM_JOB_ID:-local}
ranks=${SLURM_NTASKS:-2}

# The wheel's MPICH brings its own launcher (one node). With the site's MPI: srun mvpde run ...
mpirun -n "$ranks" mvpde run "$case" --out "$out" "$@"

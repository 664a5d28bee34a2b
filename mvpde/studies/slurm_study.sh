#!/bin/bash
# Template of a job array: `mvpde study STUDY.toml --out DIR --slurm` fills in what stands between @ signs, writes DIR/slurm.sh and
# submits it. Adapt the lines with "<" in a copy and name it by --template. Every array task computes one point of the study.
#SBATCH --job-name=mvpde-@NAME@
#SBATCH --array=@ARRAY@
#SBATCH --nodes=1
#SBATCH --ntasks=@RANKS@
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=2G
#SBATCH --time=01:00:00
#SBATCH --output=@LOGS@/slurm-%A-%a.log
##SBATCH --partition=<partition>
##SBATCH --account=<account>
set -euo pipefail

# <the environment, if the batch job does not inherit it: module load ...; source .venv/bin/activate>
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache} # compiled forms; a folder that all nodes see

cd @DIRECTORY@
# One rank needs no launcher; more are started by the wheel's MPICH (one node). With the site's MPI: srun instead of mpirun -n.
@COMMAND@ "$SLURM_ARRAY_TASK_ID"

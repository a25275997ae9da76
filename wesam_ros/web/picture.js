// The live picture: an image, outlines of objects above it, and the marks that a person makes. The server sends frames by `show`;
// marks go back as the event `mark`. Outlines are drawn here, so that they stay sharp and cost the robot nothing.

const STEP = 4; // pixels of the image that an arrow key moves the cursor; ten times as many with Shift

export default {
  template: `
    <div class="picture" :class="{ tool: tool !== 'look', comparing }">
      <div class="stage" ref="stage" tabindex="0" role="application" :aria-label="label" @keydown="onKey" @blur="cursor = null"
           :style="{ aspectRatio: width + ' / ' + height }">
        <img v-if="src" :src="src" alt="" draggable="false" @load="onLoad" @error="onLoad" />
        <p v-else class="waiting">{{ waiting }}</p>
        <svg ref="svg" :viewBox="'0 0 ' + width + ' ' + height" preserveAspectRatio="none"
             @pointerdown="onDown" @pointermove="onMove" @pointerup="onUp" @pointercancel="drag = null" @contextmenu.prevent>
          <defs>
            <clipPath :id="uid + 'a'"><rect x="0" y="0" :width="cut" :height="height" /></clipPath>
            <clipPath :id="uid + 'b'"><rect :x="cut" y="0" :width="width - cut" :height="height" /></clipPath>
          </defs>
          <g v-if="comparing" class="masks" :clip-path="'url(#' + uid + 'a)'">
            <path v-for="o in frozen" :d="o.path" :style="{ '--c': o.colour }" fill-rule="evenodd" />
          </g>
          <g class="masks" :clip-path="comparing ? 'url(#' + uid + 'b)' : null" :class="{ faded: proposal.length || sketch }">
            <path v-for="(o, i) in objects" :key="i" :d="o.path" :style="{ '--c': o.colour }" fill-rule="evenodd"
                  :class="{ picked: i === picked }" @click="pick(i)"><title>{{ o.title }}</title></path>
          </g>
          <g v-if="!comparing && tool === 'look'" class="captions" :style="{ fontSize: 13 * unit + 'px', strokeWidth: 3 * unit }">
            <text v-for="o in objects" :x="o.x" :y="o.y" dy="0.35em">{{ o.caption }}</text>
          </g>
          <g class="proposal" :style="{ strokeWidth: 2.5 * unit }"><path v-for="o in proposal" :d="o.path" fill-rule="evenodd" /></g>
          <g v-if="sketch" class="sketch" :style="{ strokeWidth: 2 * unit }">
            <polyline v-for="s in sketch.strokes" :points="s.points.join(' ')" :style="{ strokeWidth: 2 * s.radius }" class="stroke" />
            <rect v-if="sketch.box" :x="sketch.box[0]" :y="sketch.box[1]"
                  :width="sketch.box[2] - sketch.box[0]" :height="sketch.box[3] - sketch.box[1]" />
            <circle v-for="p in sketch.points" :cx="p[0]" :cy="p[1]" :r="6 * unit" :class="p[2] ? 'on' : 'off'" />
          </g>
          <g v-if="drag" class="sketch" :style="{ strokeWidth: 2 * unit }">
            <rect v-if="tool === 'box'" :x="Math.min(drag[0][0], last[0])" :y="Math.min(drag[0][1], last[1])"
                  :width="Math.abs(last[0] - drag[0][0])" :height="Math.abs(last[1] - drag[0][1])" />
            <polyline v-if="tool === 'paint'" :points="drag.join(' ')" :style="{ strokeWidth: 2 * radius }" class="stroke" />
          </g>
          <g v-if="cursor" class="cursor" :style="{ strokeWidth: 1.5 * unit }">
            <line :x1="cursor[0]" y1="0" :x2="cursor[0]" :y2="height" /><line x1="0" :y1="cursor[1]" :x2="width" :y2="cursor[1]" />
          </g>
          <line v-if="comparing" class="seam" :x1="cut" :x2="cut" y1="0" :y2="height" :style="{ strokeWidth: 2 * unit }" />
        </svg>
        <span v-if="comparing" class="side left">frozen</span><span v-if="comparing" class="side right">adapted</span>
        <span class="badge" v-if="held && !comparing">held</span>
      </div>
      <input v-if="comparing" type="range" min="0" max="100" v-model.number="split" class="split"
             aria-label="Border between the frozen model on the left and the adapted one on the right" />
    </div>`,
  props: { tool: String, label: String, waiting: String, held: Boolean },
  emits: ["mark", "shown", "pick", "seen"],
  data: () => ({
    uid: "p" + Math.random().toString(36).slice(2), src: "", stamp: "", width: 640, height: 480, objects: [], frozen: [], proposal: [],
    sketch: null, comparing: false, split: 50, picked: -1, drag: null, last: null, cursor: null, unit: 1,
  }),
  computed: {
    cut() { return (this.width * this.split) / 100; },
    radius() { return 10 * this.unit; },
  },
  mounted() {
    this.resizes = new ResizeObserver(() => this.measure());
    this.resizes.observe(this.$refs.stage);
    this.onVisibility = () => this.$emit("seen", document.visibilityState === "visible");
    document.addEventListener("visibilitychange", this.onVisibility);
    this.onVisibility();
  },
  unmounted() {
    this.resizes.disconnect();
    document.removeEventListener("visibilitychange", this.onVisibility);
  },
  methods: {
    show(frame) {
      Object.assign(this, { width: frame.width, height: frame.height, objects: frame.objects, stamp: frame.stamp, src: frame.src });
      this.measure();
    },
    propose(objects, sketch) { this.proposal = objects; this.sketch = sketch; },
    compare(objects, frozen) { this.comparing = true; this.split = 50; this.objects = objects; this.frozen = frozen; },
    live() { Object.assign(this, { comparing: false, frozen: [], proposal: [], sketch: null, drag: null }); },
    highlight(row) { this.picked = row; },
    measure() { this.unit = this.width / Math.max(this.$refs.stage.clientWidth, 1); },
    onLoad() { this.$emit("shown", this.stamp); },
    pick(row) { if (this.tool === "look") { this.picked = this.picked === row ? -1 : row; this.$emit("pick", this.picked); } },
    place(event) {
      const box = this.$refs.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.width, y = ((event.clientY - box.top) / box.height) * this.height;
      return [Math.min(Math.max(x, 0), this.width), Math.min(Math.max(y, 0), this.height)].map((v) => Math.round(v * 10) / 10);
    },
    onDown(event) {
      if (this.tool === "look" || !this.src || this.comparing) return;
      event.preventDefault();
      this.$refs.stage.focus({ preventScroll: true });
      this.cursor = null;
      this.$refs.svg.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.drag = [this.last];
      this.stampOfDrag = this.stamp;
    },
    onMove(event) {
      if (!this.drag) return;
      this.last = this.place(event);
      if (this.tool === "paint" && this.drag.length < 2000) this.drag.push(this.last);
    },
    onUp(event) {
      if (!this.drag) return;
      const [first, last] = [this.drag[0], this.place(event)];
      if (this.tool === "box") this.mark({ kind: "box", x0: first[0], y0: first[1], x1: last[0], y1: last[1] });
      else if (this.tool === "paint") this.mark({ kind: "stroke", points: this.drag, radius: this.radius });
      else this.point(last, this.tool === "on" && !event.shiftKey && event.button !== 2);
      this.drag = null;
    },
    point(place, on) { this.mark({ kind: "point", x: place[0], y: place[1], on }); },
    mark(mark) { this.$emit("mark", { stamp: this.stampOfDrag || this.stamp, ...mark }); this.stampOfDrag = ""; },
    onKey(event) {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (this.tool === "look" || this.comparing || !this.src) return;
      if (event.key in moves) {
        const [dx, dy] = moves[event.key].map((v) => v * STEP * (event.shiftKey ? 10 : 1));
        const [x, y] = this.cursor || [this.width / 2, this.height / 2];
        this.cursor = [Math.min(Math.max(x + dx, 0), this.width), Math.min(Math.max(y + dy, 0), this.height)];
      } else if (event.key === "Enter" || event.key === " ") {
        if (this.cursor) this.point(this.cursor, this.tool !== "off" && !event.shiftKey);
      } else return;
      event.preventDefault();
    },
  },
};

// A heat map on a canvas that shows only what is scrolled into view, so that thousands of rows
// cost no more than a screenful.
//
// groups: [{ columns, scale }], each with a scale of its own, apart from the others
// tell(row, column): what a cell says
// pick, pickRow, pickColumn: what a click on a cell or name does
class HeatMap {
  constructor(host, { label, rows, columns, groups, value, tell, pick, pickRow, pickColumn }) {
    Object.assign(this, { rows, columns, groups, value, tell, pick, pickRow, pickColumn });
    this.order = rows.map((_, i) => i);
    this.at = null;
    this.rowHeight = clamp(Math.floor(640 / rows.length), 12, 18);
    this.zoom = 1;
    this.canvas = make("canvas");
    this.extent = make("div", {}, this.canvas);
    this.scroll = make("div", { className: "scroll", tabIndex: 0 }, this.extent);
    this.scroll.setAttribute("role", "application");
    this.scroll.setAttribute(
      "aria-label",
      `${label}. Arrow keys move, Enter opens, r sorts columns by the row, c sorts rows by the column.`,
    );
    this.readout = make("p", { className: "readout", role: "status" });
    host.replaceChildren(this.scroll, this.readout);
    this.scroll.addEventListener("scroll", () => (tip.hide(), this.paint()), { passive: true });
    this.scroll.addEventListener("pointermove", (event) => this.hover(event));
    this.scroll.addEventListener("pointerleave", () => tip.hide());
    this.scroll.addEventListener("click", (event) => this.click(event));
    this.scroll.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.layout()).observe(host);
    this.host = host;
    this.say("Point at a cell, or move with the arrow keys.");
    this.layout();
  }

  say(text) {
    this.readout.textContent = text;
  }

  set(changes) {
    Object.assign(this, changes);
    this.layout();
  }

  layout() {
    const available = this.host.clientWidth - 2;
    if (available < 50) return;
    this.shown = this.groups.flatMap((group) => group.columns.map((column) => ({ column, group })));
    this.left =
      12 +
      Math.min(
        150,
        Math.max(30, ...this.rows.map((name) => (name.length < 40 ? textWidth(name, 11.5) : 150))),
      );
    this.top =
      12 + Math.min(240, Math.max(30, ...this.columns.map((name) => textWidth(name, 11.5))));
    const gap = 10;
    const gaps = (this.groups.length - 1) * gap;
    const fit = (available - this.left - gaps - 18) / Math.max(this.shown.length, 1);
    this.width = clamp(fit, 11, 26) * this.zoom;
    let x = 0;
    this.x = this.shown.map(({ group }, i) => {
      if (i && group !== this.shown[i - 1].group) x += gap;
      x += this.width;
      return x - this.width;
    });
    const total = this.left + x + 4;
    const height = this.top + this.order.length * this.rowHeight + 4;
    // What does not fit is scrolled in a frame that fits the window.
    const tall = height > 900;
    const frame = tall ? clamp(0.85 * innerHeight, 480, 900) : height;
    this.scroll.style.height = `${frame + (total > available ? 17 : 2)}px`;
    this.scroll.style.width = total + 18 < available ? `${total + 2 + (tall ? 16 : 0)}px` : "";
    this.extent.style.width = `${total}px`;
    this.extent.style.height = `${height}px`;
    this.paint();
  }

  paint() {
    const { clientWidth: width, clientHeight: height, scrollLeft, scrollTop } = this.scroll;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    const x = (i) => this.left + this.x[i] - scrollLeft;
    const y = (i) => this.top + i * this.rowHeight - scrollTop;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight));
    const last = Math.min(
      this.order.length,
      Math.ceil((scrollTop + height - this.top) / this.rowHeight),
    );
    const seen = this.shown
      .map((_, i) => i)
      .filter((i) => x(i) + this.width > this.left && x(i) < width);
    const inside = (box, work) => {
      context.save();
      context.beginPath();
      context.rect(...box);
      context.clip();
      work();
      context.restore();
    };
    const font = (bold, size) => {
      context.font = `${bold ? 600 : 400} ${size}px ${FONT}`;
    };
    inside([this.left, this.top, width, height], () => {
      const [lineX, lineY] = [this.width > 6 ? 1 : 0, this.rowHeight > 6 ? 1 : 0];
      for (let r = first; r < last; r++) {
        for (const i of seen) {
          const { column, group } = this.shown[i];
          context.fillStyle = group.scale.colour(this.value(this.order[r], column));
          context.fillRect(x(i), y(r), this.width - lineX, this.rowHeight - lineY);
        }
      }
      if (this.at) {
        context.strokeStyle = "#000";
        context.lineWidth = 2;
        context.strokeRect(
          x(this.at.i) - 0.5,
          y(this.at.r) - 0.5,
          this.width,
          Math.max(this.rowHeight, 3),
        );
      }
    });
    context.fillStyle = "#1b2430";
    context.textBaseline = "middle";
    inside([0, this.top, this.left, height], () => {
      if (this.rowHeight < 9) return;
      context.textAlign = "right";
      for (let r = first; r < last; r++) {
        font(this.at?.r === r, Math.min(11.5, this.rowHeight));
        context.fillText(
          clipped(context, this.rows[this.order[r]], this.left - 10),
          this.left - 6,
          y(r) + this.rowHeight / 2,
        );
      }
    });
    inside([this.left, 0, width, this.top], () => {
      context.textAlign = "left";
      for (const i of seen) {
        context.save();
        context.translate(x(i) + this.width / 2, this.top - 6);
        context.rotate(-Math.PI / 2);
        font(this.at?.i === i, 11.5);
        context.fillText(clipped(context, this.columns[this.shown[i].column], this.top - 10), 0, 0);
        context.restore();
      }
    });
  }

  // What lies under the pointer: a row, a column, or a cell of both.
  find(event) {
    const box = this.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const r = Math.floor((py - this.top + this.scroll.scrollTop) / this.rowHeight);
    const place = px - this.left + this.scroll.scrollLeft;
    const i = this.x.findIndex((start) => place >= start && place < start + this.width);
    return {
      r: py >= this.top && r < this.order.length ? r : null,
      i: px >= this.left && i >= 0 ? i : null,
      onNames: px < this.left || py < this.top,
    };
  }

  text({ r, i }) {
    return this.tell(this.order[r], this.shown[i].column);
  }

  hover(event) {
    const { r, i } = this.find(event);
    this.canvas.style.cursor = r !== null || i !== null ? "pointer" : "";
    if (r !== null && i !== null) {
      tip.show(this.text({ r, i }), event.clientX, event.clientY);
      this.say(this.text({ r, i }));
    } else if (r !== null) {
      tip.show(
        `${this.rows[this.order[r]]}\nClick: order columns by this row`,
        event.clientX,
        event.clientY,
      );
    } else if (i !== null) {
      tip.show(
        `${this.columns[this.shown[i].column]}\nClick: order rows by this column`,
        event.clientX,
        event.clientY,
      );
    } else tip.hide();
  }

  click(event) {
    const { r, i } = this.find(event);
    if (r !== null && i !== null) {
      this.at = { r, i };
      this.paint();
      this.pick?.(this.order[r], this.shown[i].column);
    } else if (r !== null) this.pickRow(this.order[r]);
    else if (i !== null) this.pickColumn(this.shown[i].column);
  }

  key(event) {
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      PageUp: [-20, 0],
      PageDown: [20, 0],
    };
    if (!this.order.length || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) {
      const [down, right] = this.at ? moves[event.key] : [0, 0];
      this.go((this.at?.r ?? 0) + down, (this.at?.i ?? 0) + right);
    } else if (this.at && event.key === "Enter")
      this.pick?.(this.order[this.at.r], this.shown[this.at.i].column);
    else if (this.at && event.key === "r") this.pickRow(this.order[this.at.r]);
    else if (this.at && event.key === "c") this.pickColumn(this.shown[this.at.i].column);
    else return;
    event.preventDefault();
  }

  // Mark a cell, given by its place, and scroll it into view.
  go(r, i) {
    this.at = { r: clamp(r, 0, this.order.length - 1), i: clamp(i, 0, this.shown.length - 1) };
    const { clientWidth, clientHeight } = this.scroll;
    const [x, y] = [this.x[this.at.i], this.at.r * this.rowHeight];
    this.scroll.scrollTop = clamp(
      this.scroll.scrollTop,
      y + this.rowHeight - (clientHeight - this.top),
      y,
    );
    this.scroll.scrollLeft = clamp(
      this.scroll.scrollLeft,
      x + this.width - (clientWidth - this.left),
      x,
    );
    this.say(this.text(this.at));
    this.paint();
  }
}

function clipped(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > room) length--;
  return `${text.slice(0, length)}…`;
}

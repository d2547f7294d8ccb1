// Drawing: an element that is drawn by hand as SVG at the size it really has, and again when its model or its size changes.
//
// Rules. A subclass has draw(), which reads `this.data`, the model that was set last. Not here: what is drawn; the chart, which
// also has a cursor.

export class Drawing extends HTMLElement {
  connectedCallback() {
    if (this.watcher) return;
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this);
  }

  disconnectedCallback() {
    this.watcher?.disconnect();
    this.watcher = null;
  }

  set model(model) {
    this.data = model;
    if (this.isConnected) this.draw();
  }
}

(() => {
  const start = () => {
    const grid = document.getElementById("IDENTITY");
    if (!grid || grid.dataset.ready) return;
    grid.dataset.ready = "1";
    const all = [...grid.querySelectorAll("audio")];
    for (const row of grid.querySelectorAll(".au-row")) {
      const sounds = [...row.querySelectorAll("audio")];
      const heads = [...row.querySelectorAll(".au-head")];
      // Nothing is loaded before a player starts, so the page tells the length.
      const lengthOf = (s) => s.duration || Number(s.dataset.seconds);
      let position = 0;
      const draw = () => {
        const length = Math.max(...sounds.map(lengthOf));
        for (const head of heads) head.style.left = length ? `${(100 * position) / length}%` : "0";
        const playing = sounds.find((s) => !s.paused);
        row.classList.toggle("au-playing", Boolean(playing) || position > 0);
        if (playing) {
          position = playing.currentTime;
          requestAnimationFrame(draw);
        }
      };
      for (const sound of sounds) {
        sound.addEventListener("play", () => {
          const before = sounds.find((s) => s !== sound && !s.paused);
          if (before) position = before.currentTime;
          for (const other of all) if (other !== sound) other.pause();
          const ended = sound.duration && position >= sound.duration - 0.05;
          if (Math.abs(sound.currentTime - position) > 0.02) sound.currentTime = ended ? 0 : position;
          requestAnimationFrame(draw);
        });
        sound.addEventListener("seeked", () => {
          if (sound.paused && sounds.some((s) => !s.paused)) return;
          position = sound.currentTime;
          draw();
        });
        sound.addEventListener("ended", () => { position = 0; draw(); });
      }
      row.querySelectorAll(".au-picture").forEach((picture, i) => {
        picture.addEventListener("click", (event) => {
          const box = picture.getBoundingClientRect();
          const playing = sounds.find((s) => !s.paused);
          const length = lengthOf(sounds[i]);
          position = Math.max(0, Math.min(length, (length * (event.clientX - box.left)) / box.width));
          if (playing === sounds[i]) playing.currentTime = position;
          else {
            if (playing) playing.pause();
            sounds[i].currentTime = position;
            sounds[i].play();
          }
          draw();
        });
      });
    }
  };
  start();
})();

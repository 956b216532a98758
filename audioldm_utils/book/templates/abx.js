(() => {
  const page = document.getElementById("IDENTITY");
  if (!page || page.dataset.ready) return;
  page.dataset.ready = "1";
  const { trials, pairs } = JSON.parse(page.querySelector(".au-data").textContent);
  const sound = Object.fromEntries([...page.querySelectorAll("audio")].map((s) => [s.dataset.name, s]));
  const buttons = [...page.querySelectorAll("button")];
  const said = page.querySelector(".au-abx-trial");
  const result = page.querySelector(".au-abx-result");
  let answers, pair, hidden;
  const draw = (n) => {
    // Rejection keeps the choice uniform.
    const limit = Math.floor(2 ** 32 / n) * n;
    const value = new Uint32Array(1);
    do crypto.getRandomValues(value); while (value[0] >= limit);
    return value[0] % n;
  };
  const next = () => {
    pair = pairs[draw(pairs.length)];
    hidden = draw(2) ? "A" : "B";
    sound.A.src = pair.A;
    sound.B.src = pair.B;
    sound.X.src = pair[hidden];
    said.textContent = `Trial ${answers.length + 1} of ${trials}: ${pair.clip}. A: ${pair.a}. B: ${pair.b}.`;
  };
  const tail = (hits, n) => {
    let term = 2 ** -n, sum = 0;
    for (let k = 0; k <= n; k++) {
      if (k >= hits) sum += term;
      term *= (n - k) / (k + 1);
    }
    return Math.min(1, sum);
  };
  const finish = () => {
    const hits = answers.filter((a) => a.right).length;
    const p = tail(hits, trials);
    const shown = p < 0.001 ? "below 0.001" : p.toFixed(3);
    said.textContent = "The test is over.";
    result.textContent = `${hits} of ${trials} right; by guessing, so many or more have probability ${shown}. `;
    const quote = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const lines = answers.map((a) => [a.clip, a.a, a.b, a.hidden, a.answer, a.right ? 1 : 0].map(quote).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["clip,a,b,x,answer,right", ...lines].join("\n") + "\n"], { type: "text/csv" }));
    link.download = "abx.csv";
    link.textContent = "Answers as CSV";
    result.append(link);
  };
  const begin = () => {
    answers = [];
    result.textContent = "";
    for (const button of buttons) button.disabled = false;
    next();
  };
  for (const s of Object.values(sound)) {
    s.addEventListener("play", () => {
      for (const other of Object.values(sound)) {
        if (other !== s && !other.paused) {
          s.currentTime = other.currentTime;
          other.pause();
        }
      }
    });
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const answer = button.dataset.answer;
      if (!answer) return begin();
      for (const s of Object.values(sound)) s.pause();
      answers.push({ ...pair, hidden, answer, right: answer === hidden });
      if (answers.length < trials) return next();
      for (const b of buttons) b.disabled = Boolean(b.dataset.answer);
      finish();
    });
  }
  begin();
})();

# frozen_string_literal: true

# Graphs as text, Mermaid and SVG: of workflows, of stored versions, and of tasks with their states.
RSpec.describe TaskerCore::Graph do
  # A graph of steps by name and parents, without a database.
  def graph(parents, **facts)
    steps = parents.map do |name, before|
      { "name" => name, "dependencies" => before.map { parents.keys.index(_1) }, **facts.fetch(name.to_sym, {}) }
    end
    described_class.new("shop.order 1.0.0", steps)
  end

  def parsed(graph, &link) = Nokogiri::XML(graph.to_svg(&link), &:strict).remove_namespaces!

  # [left, top, right, bottom] of each step's box, by name.
  def boxes(graph)
    parsed(graph).css(".tasker-step").to_h do |step|
      x, y, width, height = %w[x y width height].map { step.at("rect")[_1].to_f }
      [step.at("title").text[/\A\w+/], [x, y, x + width, y + height]]
    end
  end

  # Points on a picture's lines, several of each curve.
  def points(path)
    curves = path.scan(/M([\d.]+) ([\d.]+)C([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)/).map do |numbers|
      numbers.map(&:to_f).each_slice(2).to_a
    end
    straight = path.scan(/M([\d.]+) ([\d.]+)H([\d.]+)/).map { |x, y, to| [[(x.to_f + to.to_f) / 2, y.to_f]] }.flatten(1)
    straight + curves.flat_map do |curve|
      (1..9).map do |tenths|
        t = tenths / 10.0
        weights = [(1 - t)**3, 3 * t * ((1 - t)**2), 3 * (t**2) * (1 - t), t**3]
        curve.transpose.map { |coordinates| coordinates.zip(weights).sum { |coordinate, weight| coordinate * weight } }
      end
    end
  end

  let(:failed) do
    Repairable.create!.tap { |task| with_worker { task.wait(timeout: 120) } }
  end

  it "says what a step waits for, for every reason of the API" do
    schemas = YAML.unsafe_load_file("#{__dir__}/../../config/openapi.yaml").dig("components", "schemas")
    expect(described_class::WAITS.keys).to match_array schemas.dig("WaitingReason", "enum").compact
    expect(schemas.dig("Graph", "properties", "nodes", "items", "properties", "waiting_reason"))
      .to eq schemas.dig("StepMembers", "properties", "waiting_reason")
  end

  it "escapes every name and title in a picture" do
    odd = %(<a href="x">&'b')
    picture = described_class.new(odd, [{ "name" => odd, "dependencies" => [] }])
    expect(picture.to_svg { |_| %(/?a="<b>&) }).not_to include("<a href=\"x\">")
    whole = parsed(picture)
    expect([whole.at("title").text, whole.at(".tasker-step title").text, whole.at("text").text]).to eq [odd] * 3
    expect(parsed(picture) { |_| %(/?a="<b>&) }.at("a")["href"]).to eq %(/?a="<b>&)
  end

  it "draws workflow classes, workflow files and stored versions" do
    class_graph = described_class.of_workflow(Diamond)
    expect(class_graph.nodes.map { [_1.name, _1.dependencies, _1.level, _1.state] })
      .to eq [["a", [], 0, nil], ["b", ["a"], 1, nil], ["c", ["a"], 1, nil], ["d", %w[b c], 2, nil]]
    expect(class_graph.title).to eq "default.diamond #{Diamond.version}"
    expect(described_class.of_version(Diamond.create!(n: 2).workflow_version).to_h).to eq class_graph.to_h

    file = TaskerCore::Workflows::YamlFile.new("#{root}/spec/dummy/config/tasker/workflows/yaml_diamond.yaml")
    expect(described_class.of_workflow(file).nodes.map(&:name)).to eq file.compiled.step_names
  end

  it "shows the state and error of each step of a task" do
    expect(described_class.of_task(failed).to_text).to eq <<~TEXT
      task #{failed.id}: default.repairable #{Repairable.version}
      ✔ first (complete)
        ✘ second ← first (error, attempt 2): broken
          · third ← second (pending)
    TEXT
    expect(described_class.of_task(failed).to_h).to include(
      nodes: [a_hash_including(name: "first", state: "complete", note: nil),
              a_hash_including(name: "second", state: "error", attempts: 2, error: "broken", note: "attempt 2: broken"),
              a_hash_including(name: "third", state: "pending", level: 2)],
      edges: [{ from: "first", to: "second" }, { from: "second", to: "third" }]
    )
    expect(JSON.parse(JSON.generate(described_class.of_task(failed).to_h))["nodes"].size).to eq 3
  end

  it "abbreviates many parents and limits the indentation" do
    parents = (1..20).to_h { ["part_#{_1}", []] }
    expect(graph(parents.merge("join" => parents.keys)).to_text.lines.last.chomp)
      .to eq "  · join ← part_1, part_2, part_3, part_4, part_5, part_6, part_7, part_8 and 12 more"
    chain = (0...500).to_h { |number| ["s#{number}", number.zero? ? [] : ["s#{number - 1}"]] }
    expect(graph(chain).to_text.lines.map(&:length).max).to be < 90
  end

  it "draws a Mermaid flowchart with escaped labels" do
    error = "no \"card\" `at` <all> [here]; #1 --> end\nmore"
    drawn = graph({ "pay" => [], "ship" => ["pay"] }, pay: { "state" => "error", "attempts" => 2, "error" => error },
                                                      ship: { "state" => "pending" }).to_mermaid
    escaped = "no #34;card#34; #96;at#96; #60;all#62; #91;here#93;; #35;1 --#62; end …"
    expect(drawn).to eq <<~MERMAID
      flowchart LR
        step0["✘ pay<br/>error, attempt 2: #{escaped}"]:::error
        step1["· ship<br/>pending"]:::pending
        step0 --> step1
        classDef error fill:#ffebe9,stroke:#cf222e,color:#1f2328
        classDef pending fill:#ffffff,stroke:#8c959f,color:#1f2328
    MERMAID
    expect(graph({ "a" => [], "b" => ["a"] }).to_mermaid)
      .to eq "flowchart LR\n  step0[\"a\"]\n  step1[\"b\"]\n  step0 --> step1\n"
  end

  it "has a mark and colours for every step state" do
    states = %w[pending ready in_progress waiting complete error cancelled resolved_manually]
    drawn = graph(states.to_h { [_1, []] }, **states.to_h { [_1.to_sym, { "state" => _1 }] })
    expect(parsed(drawn).css("rect").map { _1["fill"] }.uniq.size).to eq states.size
    expect(drawn.to_mermaid.scan("classDef").size).to eq states.size
  end

  describe "as an SVG" do
    it "describes itself for screen readers and is self-contained" do
      svg = described_class.of_task(failed).to_svg
      picture = Nokogiri::XML(svg, &:strict).remove_namespaces!.root
      expect(picture["role"]).to eq "img"
      expect(picture.element_children.first(2).map(&:text))
        .to eq ["task #{failed.id}: default.repairable #{Repairable.version}",
                "3 steps: 1 complete, 1 error, 1 pending"]
      expect(picture.css("text").map(&:text))
        .to eq ["✔ first", "complete", "✘ second", "error, attempt 2: broken", "· third", "pending"]
      expect(svg).not_to match(/<style|style=|<script|href|url\(|id=/)
    end

    it "links steps to given pages, and is then a group" do
      graph = described_class.of_task(failed)
      picture = parsed(graph) { |node| "/steps/#{node.name}?\"a\"&b" unless node.name == "third" }
      expect(picture.root["role"]).to eq "group"
      expect(picture.css("a").map { |link| [link["href"], link.at("text").text] })
        .to eq [["/steps/first?\"a\"&b", "✔ first"], ["/steps/second?\"a\"&b", "✘ second"]]
      expect(picture.css("text").map(&:text).last(2)).to eq ["· third", "pending"]
    end

    it "escapes text and cuts what does not fit its box" do
      error = "<script>alert(\"1\")</script> & \0 #{'x' * 300}"
      picture = parsed(graph({ "a" * 100 => [], "b" => [] },
                             b: { "state" => "error", "attempts" => 1, "error" => error }))
      expect(picture.css("script")).to be_empty
      expect(picture.css("text").map(&:text))
        .to eq ["#{'a' * 32}…", "✘ b", "error, <script>alert(\"1\")</script> & \\…"]
      expect(picture.css("g > title").map(&:text)).to eq ["a" * 100, "b, error, #{error.sub("\0", '\u0000')}"]
    end

    it "makes boxes wide enough for their text and ideographs" do
      drawn = graph({ "short" => [], "quite_a_long_name_of_a_step_really" => [], "n" => [] },
                    n: { "state" => "error", "error" => "失敗しました失敗しました失敗しました失敗しました" })
      parsed(drawn).css(".tasker-step").each do |step|
        room = step.at("rect")["width"].to_f - 20
        widths = step.css("text").map do |text|
          text.text.each_char.sum { |character| character.ord > 0x2ff ? 1.0 : 0.602 } * text["font-size"].to_f
        end
        expect(widths).to all(be <= room)
      end
    end

    it "places children to the right, without any overlap" do
      random = Random.new(7)
      parents = (0...120).to_h do |number|
        ["s#{number}", number < 5 ? [] : Array.new(3) { "s#{random.rand(number)}" }.uniq]
      end
      drawn = graph(parents)
      places = boxes(drawn)
      parents.each { |name, before| before.each { |parent| expect(places[name][0]).to be > places[parent][2] } }
      places.values.combination(2) do |one, other|
        apart = one[2] <= other[0] || other[2] <= one[0] || one[3] <= other[1] || other[3] <= one[1]
        expect(apart).to be(true), "#{one} lies upon #{other}"
      end
      lines = parsed(drawn).css(".tasker-line path").flat_map { points(_1["d"]) }
      behind = lines.select do |x, y|
        places.values.any? do |left, top, right, bottom|
          x.between?(left + 0.2, right - 0.2) && y.between?(top + 0.2, bottom - 0.2)
        end
      end
      expect([lines.size > 1000, behind]).to eq [true, []]
    end

    it "orders steps to avoid needless crossings" do
      # Declared so that every line would cross the others.
      drawn = graph({ "a" => [], "b" => [], "c" => [], "x" => ["c"], "y" => ["b"], "z" => ["a"] })
      heights = boxes(drawn).transform_values { _1[1] }
      pairs = [%w[a z], %w[b y], %w[c x]]
      expect(pairs.sort_by { heights[_1.first] }).to eq(pairs.sort_by { heights[_1.last] })
      expect(pairs.map { |parent, child| (heights[parent] - heights[child]).abs }).to all(be < 0.2)
    end

    it "draws the largest workflows" do
      chain = Array.new(10_000) do |number|
        { "name" => "s#{number}", "dependencies" => [number - 1, 0].uniq.reject(&:negative?) }
      end
      drawn = described_class.new(
        "large", chain.map { |step| step["name"] == "s0" ? step.merge("dependencies" => []) : step }
      )
      expect(drawn.to_svg.scan("<rect").size).to eq 10_000
      crowd = { "root" => [] }.merge((1..1000).to_h { ["p#{_1}", ["root"]] })
      expect(boxes(graph(crowd.merge("join" => crowd.keys.drop(1)))).size).to eq 1002
    end
  end
end

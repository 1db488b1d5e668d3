# frozen_string_literal: true

RSpec.describe "Workflows of the API" do
  before do
    [Line, Tree, TaskerCore.workflow(:yaml_diamond, namespace: "files")].each { |workflow| workflow.create!(n: 2) }
  end

  def version(namespace, name) = TaskerCore::WorkflowVersion.find_by!(namespace: namespace, name: name)

  def path(version) = "/workflows/#{version.namespace}/#{version.name}/#{CGI.escape(version.version)}"

  it "are listed in pages, newest first" do
    newest = TaskerCore::WorkflowVersion.order(id: :desc).map(&:digest)
    found = []
    page = api(:get, "/workflows?limit=1")
    loop do
      found.concat(page["workflows"].map { |workflow| workflow["digest"] })
      break unless page["next"]

      get response.headers["Link"][/<(.*)>/, 1]
      page = response.parsed_body
    end
    expect(found).to eq newest
    with_settings(api: { page_size: 1 })
    expect(api(:get, "/workflows")["workflows"].size).to eq 1
  end

  it "are filtered by namespace and name" do
    expect(api(:get, "/workflows?namespace=files")["workflows"])
      .to match [include("name" => "yaml_diamond", "version" => "1.0.0", "steps" => 4)]
    expect(api(:get, "/workflows?name=tree")["workflows"])
      .to match [include("namespace" => "default", "name" => "tree")]
    expect(api(:get, "/workflows?names=tree")).to include("status" => 400)
  end

  it "list their versions" do
    expect(api(:get, "/workflows/files/yaml_diamond")).to match("namespace" => "files", "name" => "yaml_diamond",
                                                                "next" => nil,
                                                                "versions" => [include("version" => "1.0.0")])
    expect(api(:get, "/workflows/files/line"))
      .to include("status" => 404, "detail" => /no workflow files.line is registered/)
  end

  it "are shown as compiled, whatever the version's characters" do
    json = api(:get, path(version("default", "line")))
    expect(json)
      .to include("name" => "line", "definition" => include("steps" => [include("name" => "a", "handler" => "Square"),
                                                                        anything, anything, anything]))
    odd = Class.new(TaskerCore::Workflow) do
      workflow_name "odd_one"
      version "1/2?ü%"
      step :only, handler: "Square"
    end
    odd.create!
    expect(api(:get, path(version("default", "odd_one")))).to include("version" => "1/2?ü%")
    %w[line/%00 line/a%00b line%00/1 line%00].each do |odd|
      expect(api(:get, "/workflows/default/#{odd}")).to include("status" => 404)
    end
    expect(api(:get, "/workflows/default/line/9"))
      .to include("status" => 404, "detail" => /no workflow default.line 9 is registered/)
  end

  it "are drawn" do
    diamond = version("files", "yaml_diamond")
    json = api(:get, "#{path(diamond)}/graph")
    expect(json["edges"].map { |edge| edge.values_at("from", "to") })
      .to contain_exactly(%w[a b], %w[a c], %w[b d], %w[c d])
    expect(json["nodes"].map { |node| node["state"] }.uniq).to eq [nil]
    expect(api(:get, "#{path(diamond)}/graph?format=svg")).to start_with("<svg").and include("yaml_diamond")
    expect(api(:get, "/workflows/files/yaml_diamond/2/graph")).to include("status" => 404)
  end
end

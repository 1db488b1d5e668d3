# frozen_string_literal: true

RSpec.describe "bench/sql_functions" do
  # Of a call that reads all tasks: its time grows with them by design.
  unmeasured = %w[recount_tasks]

  it "measures every SQL function that no other function calls" do
    sources = Dir["#{root}/db/functions/**/*.sql"].to_h do |path|
      [File.basename(path, ".sql"), File.read(path).gsub(/^\s*--.*/, "").sub(/create function \S+\(/, "")]
    end
    outer = sources.keys.reject { |name| sources.each_value.any? { |sql| sql.include?("tasker_core_v1.#{name}(") } }
    measured = File.read("#{root}/bench/sql_functions").scan(/"(\w+)\(/).flatten
    expect(outer - measured).to match_array unmeasured
  end
end

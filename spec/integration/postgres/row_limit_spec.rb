# frozen_string_literal: true

# Which errors make a statement smaller. The orchestrator and the SQL functions have the same list.
RSpec.describe TaskerCore::Postgres::RowLimit do
  def failing(code)
    ActiveRecord::Base.connection.execute("do $$ begin raise exception 'why' using errcode = '#{code}'; end $$")
  end

  def rows_tried(code)
    tried = []
    described_class.new(2).run do |rows|
      tried << rows
      failing(code)
    end
  rescue TaskerCore::DatabaseError, ActiveRecord::StatementInvalid => e
    [tried, e.class]
  end

  %w[22003 23514 54000 XX000 XX001 XX002 58030 58P01 57014 55P03 53200 53400].each do |code|
    it("halves the rows after #{code}") { expect(rows_tried(code)).to eq [[2, 1], described_class::RowError] }
  end

  %w[53100 40001 58000 57P01 42883].each do |code|
    it("raises #{code} at once") { expect(rows_tried(code)).to match [[2], be <= ActiveRecord::StatementInvalid] }
  end
end
